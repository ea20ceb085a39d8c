from __future__ import annotations

import pytest

from wsl_bootstrap.redact import redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at /home/anna/runs/1", "at ~/runs/1"),
        ("at /home/annabel/runs", "at /home/annabel/runs"),
        ("anna@pc: Anna's annals", "<user>@pc: <user>'s annals"),
        ("index https://me:geheim@host/simple", "index https://***@host/simple"),
        ("Authorization: Bearer abc.def-1", "Authorization: Bearer ***"),
        ("HF_TOKEN=hf_abcdefgh12 api-key: 12345 x", "HF_TOKEN=*** api-key: *** x"),
        ("got hf_abcdefgh1234", "got ***"),
        ("12 tokens, secretary, 5e-5", "12 tokens, secretary, 5e-5"),
    ],
)
def test_what_names_the_person_or_opens_a_door_goes(text: str, shown: str) -> None:
    assert redact(text, home="/home/anna", user="anna") == shown


def test_windows_names_in_any_spelling() -> None:
    text = r'c:\users\ANNA\a {"p": "C:\\Users\\anna\\b"} C:/Users/anna/c'
    assert redact(text, home=r"C:\Users\anna", user="anna") == r'~\a {"p": "~\\b"} ~/c'


def test_a_name_that_everybody_has_stays() -> None:
    assert redact("run as root in /root/x", home="/root", user="root") == "run as root in ~/x"
