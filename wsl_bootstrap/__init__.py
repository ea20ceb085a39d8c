"""Set-up: from "a computer" to "a Linux environment that can train". Knows no Qt, no torch, no trainer."""
