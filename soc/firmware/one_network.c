/* A network under a name of its own, NETWORK, so that two fit into one program. */
#define JOINED_(a, b) a##b
#define JOINED(a, b) JOINED_(a, b)
#define network_run JOINED(NETWORK, _network_run)
#define network_check_tables JOINED(NETWORK, _network_check_tables)

#include "network.c"

int JOINED(NETWORK, _run)(void *workspace, const float *input, float *output);
int JOINED(NETWORK, _run)(void *workspace, const float *input, float *output)
{
    return network_run((network_workspace *)workspace, input, output);
}

int JOINED(NETWORK, _check)(void);
int JOINED(NETWORK, _check)(void)
{
    return network_check_tables();
}
