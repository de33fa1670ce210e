"use strict";
// Plots: drawn once, and again in the other colours when the theme changes or the page is printed.
const figures = JSON.parse(document.getElementById("figures").textContent);
const templates = JSON.parse(document.getElementById("templates").textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const options = {
  responsive: true,
  displaylogo: false,
  displayModeBar: "hover",
  modeBarButtons: [["toImage"]],
  toImageButtonOptions: { format: "svg" },
};
const printed = 660; // px that fit the width of an A4 or letter page

function draw(theme, width) {
  return Promise.all(Object.entries(figures).map(([id, figure]) => {
    const layout = { ...figure.layout, template: templates[theme] };
    if (width) layout.width = width;
    const drawn = Plotly.react(id, figure.data, layout, options);
    // A width that was set for printing stays until the plot is told to look again.
    return width ? drawn : drawn.then(() => Plotly.Plots.resize(id));
  }));
}

const theme = () => (dark.matches ? "dark" : "light");
draw(theme()).then(() => { document.documentElement.dataset.drawn = "yes"; });
dark.addEventListener("change", () => draw(theme()));
addEventListener("beforeprint", () => draw("light", printed));
addEventListener("afterprint", () => draw(theme()));

// Tables: a click on a heading sorts by it, a second one the other way round; blanks stay last.
function key(row, column) {
  const cell = row.cells[column];
  if (!("sort" in cell.dataset)) return cell.textContent.trim().toLowerCase();
  return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
}

function order(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return down ? order(b, a) : order(a, b);
    });
    table.tBodies[0].append(...rows.map(([, row]) => row));
  }));
}
