@echo off
rem Opens RWKV LoRA Runner on Windows: makes .venv beside this folder and installs the window (no PyTorch).
rem Nobody has run this file on Windows yet: see docs\verification.md.
setlocal
rem Python reads paths with letters beyond the system's own code page only in UTF-8 mode.
set PYTHONUTF8=1
cd /d "%~dp0.."
set "py=.venv\Scripts\python.exe"
set "stamp=.venv\ready-window"

if not exist "%py%" (
    py -3 -c "import sys; sys.exit(not ((3, 10) <= sys.version_info < (3, 14) and sys.maxsize > 2**32))"
    if errorlevel 1 (
        echo RWKV LoRA Runner needs 64-bit Python 3.10 to 3.13. Install it, then run this file again.
        pause
        exit /b 1
    )
    echo Making .venv
    py -3 -m venv .venv
    if errorlevel 1 goto failed
)

rem The stamp holds what was installed last, so a changed list of packages is installed again.
if exist "%stamp%" (
    fc /b pyproject.toml "%stamp%" >nul 2>&1
    if not errorlevel 1 goto start
)
echo Installing the Python packages, about 350 MB on disk
"%py%" -m pip install --disable-pip-version-check -c constraints.txt -e .
if errorlevel 1 goto failed
copy /y pyproject.toml "%stamp%" >nul

:start
"%py%" -m runner_gui %*
exit /b %errorlevel%

:failed
echo The installation did not finish. Check the network and the free disk space, then run this file again.
pause
exit /b 1
