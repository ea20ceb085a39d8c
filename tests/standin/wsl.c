/* A wsl.exe for Wine: hands its raw command line, folder and environment to relay.py, passes the streams through
   byte for byte, and ends with the whole 32 bits of the exit code. Ended itself, it leaves a closed connection,
   which the relay takes as wsl.exe's death.

   A frame is a letter, a length in four bytes (big endian) and that many bytes: 'H' what to run and '0' standard
   input (empty at its end) one way; '1' and '2' standard output and error, and 'X' the exit code the other. */

#define WIN32_LEAN_AND_MEAN
#include <winsock2.h>
#include <windows.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PORT L"RUNNER_STANDIN_PORT"
#define BLOCK 65536
#define NO_RELAY 0xE0000001u

static SOCKET relay;
static CRITICAL_SECTION sending;

static void send_all(const char *bytes, int left)
{
    while (left > 0) {
        int sent = send(relay, bytes, left, 0);
        if (sent <= 0)
            ExitProcess(NO_RELAY);
        bytes += sent;
        left -= sent;
    }
}

static void receive_all(char *bytes, int left)
{
    while (left > 0) {
        int got = recv(relay, bytes, left, 0);
        if (got <= 0)
            ExitProcess(NO_RELAY);
        bytes += got;
        left -= got;
    }
}

static void send_frame(char kind, const char *bytes, uint32_t length)
{
    char head[5] = {kind, (char)(length >> 24), (char)(length >> 16), (char)(length >> 8), (char)length};
    EnterCriticalSection(&sending);
    send_all(head, sizeof head);
    send_all(bytes, (int)length);
    LeaveCriticalSection(&sending);
}

static uint32_t number(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Append UTF-16 as UTF-8, NULs included. */
static void append(char **text, int *length, const wchar_t *wide, int count)
{
    int more = WideCharToMultiByte(CP_UTF8, 0, wide, count, NULL, 0, NULL, NULL);
    *text = realloc(*text, (size_t)(*length + more));
    WideCharToMultiByte(CP_UTF8, 0, wide, count, *text + *length, more, NULL, NULL);
    *length += more;
}

static void send_header(void)
{
    static wchar_t folder[32768];
    char *text = NULL;
    int length = 0;
    const wchar_t *line = GetCommandLineW(), *variables = GetEnvironmentStringsW(), *end = variables;
    DWORD count = GetCurrentDirectoryW(sizeof folder / sizeof *folder, folder);
    append(&text, &length, line, (int)wcslen(line) + 1);
    append(&text, &length, folder, (int)count + 1);
    while (*end)
        end += wcslen(end) + 1;
    append(&text, &length, variables, (int)(end - variables));
    send_frame('H', text, (uint32_t)length);
    free(text);
}

static DWORD WINAPI pass_input(void *unused)
{
    static char block[BLOCK];
    HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
    DWORD count = 0;
    (void)unused;
    do {
        if (!ReadFile(input, block, sizeof block, &count, NULL))
            count = 0;
        send_frame('0', block, count);
    } while (count);
    return 0;
}

static void write_all(HANDLE target, const char *bytes, DWORD left)
{
    DWORD written;
    while (left > 0 && WriteFile(target, bytes, left, &written, NULL)) {
        bytes += written;
        left -= written;
    }
}

int main(void)
{
    WSADATA data;
    struct sockaddr_in address = {.sin_family = AF_INET};
    wchar_t port[8] = L"";
    unsigned char head[5];
    char *bytes = NULL;
    GetEnvironmentVariableW(PORT, port, sizeof port / sizeof *port);
    WSAStartup(MAKEWORD(2, 2), &data);
    InitializeCriticalSection(&sending);
    relay = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_port = htons((u_short)_wtoi(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(relay, (struct sockaddr *)&address, sizeof address))
        return (int)NO_RELAY;
    send_header();
    CloseHandle(CreateThread(NULL, 0, pass_input, NULL, 0, NULL));
    for (;;) {
        uint32_t length;
        receive_all((char *)head, sizeof head);
        length = number(head + 1);
        bytes = realloc(bytes, length + 1);
        receive_all(bytes, (int)length);
        if (head[0] == 'X')
            ExitProcess(number((unsigned char *)bytes));
        write_all(GetStdHandle(head[0] == '1' ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE), bytes, length);
    }
}
