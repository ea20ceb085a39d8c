/* Windows' own ICU, which Qt 6.10 and later load for converting text: Wine 8 has none. Every converter is refused, and
   Qt goes on without. The names are those that Qt6Core.dll asks for. */

#include <windows.h>

#define FILE_ACCESS_ERROR 4
#define REFUSED(name) \
    __declspec(dllexport) INT_PTR name(void) { return 0; }

__declspec(dllexport) void *ucnv_open(const char *name, int *error)
{
    (void)name;
    *error = FILE_ACCESS_ERROR;
    return NULL;
}

__declspec(dllexport) const char *ucnv_getStandardName(const char *name, const char *standard, int *error)
{
    (void)name, (void)standard;
    *error = FILE_ACCESS_ERROR;
    return NULL;
}

REFUSED(UCNV_FROM_U_CALLBACK_SUBSTITUTE)
REFUSED(UCNV_TO_U_CALLBACK_SUBSTITUTE)
REFUSED(ucnv_cbFromUWriteUChars)
REFUSED(ucnv_cbToUWriteUChars)
REFUSED(ucnv_close)
REFUSED(ucnv_compareNames)
REFUSED(ucnv_countAvailable)
REFUSED(ucnv_fromUCountPending)
REFUSED(ucnv_fromUnicode)
REFUSED(ucnv_getAvailableName)
REFUSED(ucnv_getFromUCallBack)
REFUSED(ucnv_getMaxCharSize)
REFUSED(ucnv_getName)
REFUSED(ucnv_getToUCallBack)
REFUSED(ucnv_reset)
REFUSED(ucnv_setFromUCallBack)
REFUSED(ucnv_setToUCallBack)
REFUSED(ucnv_toUCountPending)
REFUSED(ucnv_toUnicode)
