/* Opens the window from the portable folder: the signed pythonw.exe that lies in it, without a console.
   The installed application has shortcuts to pythonw.exe and does without this. */

#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <wchar.h>

#define LONGEST 32767

static wchar_t folder[LONGEST], line[LONGEST];

int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, PWSTR arguments, int show)
{
    STARTUPINFOW start = {.cb = sizeof start};
    PROCESS_INFORMATION process;
    wchar_t *name;
    (void)instance, (void)previous, (void)show;
    GetModuleFileNameW(NULL, folder, LONGEST);
    if (!(name = wcsrchr(folder, L'\\')))
        return 1;
    *name = 0;
    if (wcslen(folder) + wcslen(arguments) + 64 > LONGEST)
        return 1;
    _snwprintf(line, LONGEST, L"\"%ls\\python\\pythonw.exe\" -X utf8 -m runner_gui %ls", folder, arguments);
    if (!CreateProcessW(NULL, line, NULL, NULL, FALSE, 0, NULL, NULL, &start, &process)) {
        MessageBoxW(NULL, L"python\\pythonw.exe did not start. Unpack the whole zip file first.\r\n"
                          L"python\\pythonw.exe 无法启动，请先完整解压 zip 文件。",
                    L"RWKV LoRA Runner", MB_ICONERROR);
        return 1;
    }
    CloseHandle(process.hThread);
    CloseHandle(process.hProcess);
    return 0;
}
