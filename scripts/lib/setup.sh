# Makes and keeps the project's own environment, .venv. Sourced by scripts/run and scripts/test (POSIX sh).
#
# The caller sets `root` (the checkout) and calls `set_up run` or `set_up dev`. A set-up that is already as it
# should be costs a few milliseconds: what is wanted is compared, word for word, with what was last finished.
#
# Variables a user may set:
#   RUNNER_PYTHON       the Python to make .venv with, instead of the newest one found
#   RUNNER_GPU          1 or 0: take, or do not take, the build of PyTorch for NVIDIA GPUs, whatever is found
#   RUNNER_TORCH_INDEX  a package index that holds the PyTorch builds wanted (a mirror, another CUDA version)

venv=$root/.venv
py=$venv/bin/python
log=$venv/setup.log

say() { printf '%s\n' "$*"; }
warn() { printf '%s\n' "$*" >&2; }
fail() {
    warn "$@"
    exit 1
}

# --- Is there anything to do? -----------------------------------------------------------------------------

has_nvidia_gpu() {
    case ${RUNNER_GPU:-} in
        0) return 1 ;;
        1) return 0 ;;
    esac
    # The driver's own traces, not nvidia-smi, which takes up to a second. The last one is WSL's.
    [ -e /proc/driver/nvidia/version ] || [ -e /dev/nvidiactl ] || [ -e /usr/lib/wsl/lib/libcuda.so.1 ]
}

torch_flavour() { if has_nvidia_gpu; then echo gpu; else echo cpu; fi; }

# Everything that decides what .venv should hold.
wanted() {
    printf 'root %s\ntorch %s %s\n' "$root" "$(torch_flavour)" "${RUNNER_TORCH_INDEX:-}"
    sed -n 's/^version *= */python /p' "$venv/pyvenv.cfg" 2>/dev/null
    cat "$root/pyproject.toml" "$root/constraints.txt"
}

is_ready() { # run|dev
    [ -x "$py" ] && [ -f "$venv/ready-$1" ] && [ "$(wanted)" = "$(cat "$venv/ready-$1")" ]
}

# --- Python and the virtual environment ---------------------------------------------------------------------

is_supported_python() {
    "$1" -c 'import sys; sys.exit(not ((3, 10) <= sys.version_info < (3, 14) and sys.maxsize > 2**32))' \
        >/dev/null 2>&1
}

find_python() {
    if [ -n "${RUNNER_PYTHON:-}" ]; then
        is_supported_python "$RUNNER_PYTHON" && python=$RUNNER_PYTHON && return
        fail "RUNNER_PYTHON is $RUNNER_PYTHON, which is not a 64-bit Python 3.10 to 3.13 that runs."
    fi
    # A name that is found may still not run (version managers put such names on the path): try each.
    for python in python3.13 python3.12 python3.11 python3.10 python3 python; do
        is_supported_python "$python" && return
    done
    found=$(python3 --version 2>/dev/null || echo 'no Python 3')
    warn "RWKV LoRA Runner needs Python 3.10, 3.11, 3.12 or 3.13 (64-bit); found here: $found."
    warn "  Debian or Ubuntu:  sudo apt-get install python3 python3-venv"
    fail "  Another one:       RUNNER_PYTHON=/path/to/python3.12 ./scripts/run"
}

make_venv() {
    if [ -x "$py" ] && is_supported_python "$py" && "$py" -c 'import pip' >/dev/null 2>&1; then
        return
    fi
    find_python
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        # Debian and Ubuntu split this part of Python off.
        apt_install "python$version-venv" ||
            fail "Python $version is here without its venv module. Install it, then run this again:" \
                "sudo apt-get install python$version-venv"
    fi
    say "Making .venv with Python $version"
    "$python" -m venv --clear "$venv" || fail "Could not make $venv. Is the disk full, or the folder read-only?"
}

# --- System packages ----------------------------------------------------------------------------------------

can_apt_install() {
    command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true >/dev/null 2>&1; }
}

apt_get() {
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive apt-get "$@"
    else
        sudo -n DEBIAN_FRONTEND=noninteractive apt-get "$@"
    fi
}

apt_install() { # package…
    can_apt_install || return 1
    say "Installing system packages: $*"
    apt_log=$(apt_get install -y --no-install-recommends "$@" 2>&1) && return
    # A fresh image or an old package list: fetch the list and try once more.
    apt_log=$(apt_get update 2>&1 && apt_get install -y --no-install-recommends "$@" 2>&1) && return
    printf '%s\n' "$apt_log" | tail -n 5 >&2
    return 1
}

# Libraries that Qt loads and a font for Chinese. Never a reason to stop: the command line works without.
set_up_system_packages() {
    [ "$(uname -s)" = Linux ] || return 0
    missing=$("$py" -I "$root/scripts/lib/missing_packages.py") || return 0
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086 # one word a package is meant
    set -- $missing
    if apt_install "$@"; then
        missing=$("$py" -I "$root/scripts/lib/missing_packages.py") || missing=
        [ -n "$missing" ] || return 0
    fi
    warn "The window may not open or may lack Chinese letters: system packages are missing. Install them with:"
    # shellcheck disable=SC2086
    warn "  sudo apt-get install" $missing
    command -v apt-get >/dev/null 2>&1 ||
        warn "  (Debian's names; this system has others for the same libraries.)"
}

# --- Python packages ----------------------------------------------------------------------------------------

# Runs pip in the checkout with its output in the log, showing only the larger things it fetches.
pip_install() { # pip's arguments
    rm -f "$venv/pip-status"
    {
        status=0 # a pipeline tells the last command's status only, so pip's own goes through a file
        cd "$root" && "$py" -m pip install --disable-pip-version-check --no-input "$@" 2>&1 || status=$?
        echo "$status" >"$venv/pip-status"
    } | tee -a "$log" | sed -n 's/^ *Downloading \(.*([0-9.]* [MG]B)\).*/  \1/p'
    [ "$(cat "$venv/pip-status")" = 0 ]
}

# An interrupted pip can leave a package that looks installed. Its file list is written last: no list, not installed.
drop_half_installed() {
    for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
        [ ! -d "$info" ] || [ -f "$info/RECORD" ] || rm -rf "$info"
    done
}

torch_version() { # the pinned version, or the installed one
    case $1 in
        pinned) sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$root/constraints.txt" ;;
        installed) "$py" -c 'import importlib.metadata as m; print(m.version("torch"))' 2>/dev/null || echo none ;;
    esac
}

# uv knows by itself where PyTorch keeps its builds for each kind of machine. It is used for this and thrown away.
torch_by_uv() { # cpu|auto pinned-version
    tools=$venv/uv-tools
    pip_install --target "$tools" uv &&
        "$tools/bin/uv" pip install --python "$py" --no-deps --torch-backend "$1" --reinstall-package torch \
            "torch==$2" >>"$log" 2>&1
    status=$?
    rm -rf "$tools"
    return $status
}

# The plain Linux package of PyTorch brings 3 GB of CUDA. Where no GPU can use it, look for the build without.
prefer_cpu_torch() {
    pinned=$(torch_version pinned)
    case $(torch_version installed) in
        "$pinned" | "$pinned"+*) return ;;
    esac
    say "No NVIDIA GPU here: looking for the build of PyTorch without CUDA"
    pip_install --no-deps "torch==$pinned+cpu" && return
    torch_by_uv cpu "$pinned" && return
    warn "The build of PyTorch without CUDA can't be had here: taking the full one (about 3 GB to download)." \
        "RUNNER_TORCH_INDEX can name an index that has it."
}

# A CPU build left from before the GPU came, or a driver older than the plain build needs.
ensure_gpu_torch() {
    "$py" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>>"$log" && return
    say "This PyTorch can't use the GPU: looking for the build that suits the driver"
    torch_by_uv auto "$(torch_version pinned)" && install_project "$1" &&
        "$py" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>>"$log" && return
    warn "PyTorch still can't use the GPU, so training would run on the CPU. A newer NVIDIA driver usually helps" \
        "(details: $log)."
}

install_project() { # run|dev
    case $1 in
        run) extras=train ;;
        dev) extras=train,dev ;;
    esac
    pip_install -c constraints.txt -e ".[$extras]" && name_checkout_in_ascii
}

# pip notes the checkout's path in UTF-8, but Python reads that note in the locale's encoding and does not even start
# where it cannot: a folder with Chinese letters in its name and LC_ALL=C are enough. From here it is four folders up.
name_checkout_in_ascii() {
    for note in "$venv"/lib/python3*/site-packages/_editable_impl_rwkv_lora_runner.pth; do
        [ ! -f "$note" ] || echo ../../../.. >"$note"
    done
}

install_packages() { # run|dev
    say "Installing the Python packages (the first time about 1.4 GB on disk, with a GPU 5 GB)"
    drop_half_installed
    if [ -n "${RUNNER_TORCH_INDEX:-}" ]; then
        pip_install --no-deps --force-reinstall --index-url "$RUNNER_TORCH_INDEX" "torch==$(torch_version pinned)" ||
            install_failed
    elif [ "$(uname -s)" = Linux ] && ! has_nvidia_gpu; then
        prefer_cpu_torch
    fi
    install_project "$1" || install_failed
    if has_nvidia_gpu; then ensure_gpu_torch "$1"; fi
    "$py" -c 'import torch, pytorch_lightning, PySide6.QtCore' 2>>"$log" || install_failed
}

install_failed() {
    warn "The installation did not finish. The last lines of $log:"
    tail -n 12 "$log" >&2
    fail "Check the network and the free disk space, then run this again: it goes on where it stopped."
}

# --- All of it ----------------------------------------------------------------------------------------------

set_up() { # run|dev
    if ! is_ready "$1"; then
        # Two at once would tread on each other: the second waits here and then finds the work done.
        if command -v flock >/dev/null 2>&1; then
            exec 9<"$root"
            flock 9
        fi
        if ! is_ready "$1"; then
            make_venv
            rm -f "$venv/ready-run" "$venv/ready-dev"
            install_packages "$1"
            # Written last, so an interrupted set-up is never taken for a finished one. "dev" holds all of "run".
            wanted >"$venv/ready-$1.new" && mv "$venv/ready-$1.new" "$venv/ready-$1"
            [ "$1" = run ] || cp "$venv/ready-$1" "$venv/ready-run"
            say "Packages ready: PyTorch $(torch_version installed), $("$py" --version)"
        fi
        exec 9<&-
    fi
    set_up_system_packages
}
