/* The layers of a network: halut_layers.c with one function in front of its counterpart in software.
 *
 * It gives looked-up layers to the custom function unit or to the accelerator, as `look_ups_by`
 * says. What these do not take, software does. */
#include "firmware.h"
#include "halut_cfu.h"
#include "halut_layers.h"

/* Tables of the width that the unit adds; others stay in software. */
#if HALUT_CFU_LUT_BITS == 8
#define LOOK_UP_I8 halut_look_up_i8_packed
#define halut_look_up_i8_packed look_up_in_software
#include "halut_layers.c"
#undef halut_look_up_i8_packed
#else
#define LOOK_UP_I8 halut_look_up_i8_i4
#define halut_look_up_i8_i4 look_up_in_software
#include "halut_layers.c"
#undef halut_look_up_i8_i4
#endif

#include "plane.h"

#include "look_up_unit.h"

#ifdef WITHOUT_ACCELERATOR
#define look_up_with_accelerator look_up_with_unit
#else
#include "look_up_accelerator.h"
#endif

worker look_ups_by;

void LOOK_UP_I8(const halut_look_up *layer, const int8_t *input, void *output, uint32_t *rows_of_table)
{
    if (look_ups_by != SOFTWARE && layer->depth == 4 &&
        (look_ups_by == UNIT ? look_up_with_unit : look_up_with_accelerator)(layer, input, output))
        return;
    look_up_in_software(layer, input, output, rows_of_table);
}
