/* The header before any other, and the structs' initialisers. */
#include <syncline.h>

static syncline_options_t options = SYNCLINE_OPTIONS_INIT;
static syncline_call_options_t call_options = SYNCLINE_CALL_OPTIONS_INIT;

int main(void)
{
    return options.size != sizeof options || call_options.size != sizeof call_options ||
           syncline_last_error()[0] != 0;
}
