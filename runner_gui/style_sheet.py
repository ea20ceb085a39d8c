"""The style sheet of the window, made from a theme's roles. Sizes lie on a grid of 4 pixels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

_SHEET = Template("""
* { font-size: 13px; }
QWidget { color: $text; }
QMainWindow, QDialog, #page { background: $window; }
QToolTip { background: $card; color: $text; border: 1px solid $border_strong; padding: 4px 8px; }

#card, #bubble_user, #bubble_model { background: $card; border: 1px solid $border; border-radius: 8px; }
#rail { background: $card; border: none; border-right: 1px solid $border; }
#strip { background: $card; border: none; border-top: 1px solid $border; }
#guide { background: $card; border: 1px solid $accent_text; border-radius: 8px; }
#guide_frame { background: transparent; border: 2px solid $accent_text; border-radius: 8px; }
QListWidget { background: transparent; border: none; outline: none; }
QListWidget::item { padding: 6px 8px; border-radius: 6px; color: $text; }
QListWidget::item:selected { background: $selected; color: $accent_text; }
QListWidget:focus { border: 1px solid $accent_text; border-radius: 6px; }
#key_tip {
    background: $text; color: $card; font-size: 11px; font-weight: 600; border-radius: 3px; padding: 0 4px;
}
#divider { background: $border; border: none; }
QLabel { background: transparent; }
#title { font-size: 15px; font-weight: 600; }
#heading { font-size: 20px; font-weight: 600; }
#group { color: $muted; font-size: 12px; font-weight: 600; }
#muted, #help, #unit, #caption { color: $muted; }
#help, #caption, #unit { font-size: 12px; }
#value { font-size: 15px; font-weight: 600; }
#amber { color: $amber; font-size: 12px; }
#red { color: $red; font-size: 12px; }
#step_name { font-weight: 600; }
#step_name[state="waiting"], #step_name[state="idle"] { color: $muted; font-weight: 400; }

#banner { border-radius: 8px; border: 1px solid $border; }
#banner[kind="error"] { background: $red_surface; border-color: $red; }
#banner[kind="warning"] { background: $amber_surface; border-color: $amber; }
#banner[kind="success"] { background: $green_surface; border-color: $green; }
#banner[kind="info"] { background: $info_surface; border-color: $accent_text; }

QPushButton, QToolButton {
    background: $card; border: 1px solid $border_strong; border-radius: 6px;
    padding: 0 12px; min-height: 30px; max-height: 30px;
}
QPushButton:hover, QToolButton:hover { background: $hover; }
QPushButton:pressed, QToolButton:pressed { background: $border; }
QPushButton:focus, QToolButton:focus { border: 1px solid $accent_text; }
QPushButton:disabled, QToolButton:disabled { color: $muted; background: $window; border-color: $border; }
QPushButton#primary, QPushButton#confirm { font-weight: 600; }
QPushButton#primary, QPushButton:default#confirm {
    background: $accent; color: $on_accent; border: 1px solid $accent;
}
QPushButton#primary { min-height: 38px; max-height: 38px; font-size: 14px; }
QPushButton#primary:hover, QPushButton:default#confirm:hover { background: $accent_hover; }
QPushButton#primary:focus, QPushButton:default#confirm:focus { border: 2px solid $text; padding: 0 11px; }
QPushButton:default#confirm:focus { min-height: 28px; max-height: 28px; }
QPushButton#primary:focus { min-height: 36px; max-height: 36px; }
QPushButton#primary:disabled { background: $hover; color: $muted; border-color: $border; }
QPushButton#primary[action="stop"] { background: $card; color: $text; border-color: $border_strong; }
QPushButton#primary[action="stop"]:hover { background: $hover; }
QToolButton { padding: 0; min-width: 30px; max-width: 30px; }
QToolButton#flat, QPushButton#flat, QPushButton#link {
    background: transparent; border: 1px solid transparent;
}
QToolButton#flat:hover, QPushButton#flat:hover { background: $hover; }
QToolButton#flat:focus, QPushButton#flat:focus, QPushButton#link:focus { border: 1px solid $accent_text; }
QPushButton#link { color: $accent_text; padding: 0 6px; min-height: 24px; max-height: 24px; }
QPushButton#link:hover { background: $hover; }
QPushButton#link:disabled { color: $muted; }
QToolButton#small { min-height: 22px; max-height: 22px; min-width: 22px; max-width: 22px;
    border: 1px solid transparent; background: transparent; }
QToolButton#small:hover { background: $hover; }
QToolButton#small:focus { border: 1px solid $accent_text; }
QToolButton#nav {
    background: transparent; border: 1px solid transparent; border-radius: 8px;
    color: $muted; padding: 0 8px; min-width: 114px; max-width: 114px; min-height: 34px; max-height: 34px;
}
QToolButton#nav:hover { background: $hover; }
QToolButton#nav:checked { background: $selected; color: $accent_text; }
QToolButton#nav:focus { border: 1px solid $accent_text; }
QToolButton::menu-indicator { image: none; }

QPushButton#tab {
    background: transparent; border: none; border-bottom: 2px solid transparent; border-radius: 0;
    color: $muted; padding: 0 4px; margin: 0 6px 0 0; min-height: 28px; max-height: 28px;
}
QPushButton#tab:hover { color: $text; }
QPushButton#tab:checked { color: $accent_text; border-bottom: 2px solid $accent_text; }
QPushButton#tab:focus { background: $hover; }
QPushButton#segment {
    background: transparent; border: 1px solid $border_strong; color: $muted; padding: 0 10px;
    min-height: 26px; max-height: 26px; border-radius: 0;
}
QPushButton#segment[place="first"] { border-top-left-radius: 6px; border-bottom-left-radius: 6px; }
QPushButton#segment[place="last"] {
    border-top-right-radius: 6px; border-bottom-right-radius: 6px; border-left: none;
}
QPushButton#segment:hover { background: $hover; }
QPushButton#segment:checked { background: $selected; color: $accent_text; }
QPushButton#segment:focus { border-color: $accent_text; }

QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox, QPlainTextEdit, QTextEdit {
    background: $field; border: 1px solid $border_strong; border-radius: 6px; padding: 0 8px;
    min-height: 30px; selection-background-color: $accent; selection-color: $on_accent;
}
QLineEdit, QSpinBox, QDoubleSpinBox, QComboBox { max-height: 30px; }
QSpinBox, QDoubleSpinBox { padding: 0; }
QPlainTextEdit, QTextEdit { padding: 4px 4px; }
QLineEdit:hover, QSpinBox:hover, QDoubleSpinBox:hover, QComboBox:hover { border-color: $muted; }
QLineEdit:focus, QSpinBox:focus, QDoubleSpinBox:focus, QComboBox:focus,
QPlainTextEdit:focus, QTextEdit:focus {
    border: 1px solid $accent_text;
}
QLineEdit:disabled, QSpinBox:disabled, QDoubleSpinBox:disabled, QComboBox:disabled, QPlainTextEdit:disabled {
    background: $window; color: $text; border-color: $border;
}
QLineEdit[tone="advice"], QSpinBox[tone="advice"], QDoubleSpinBox[tone="advice"], QComboBox[tone="advice"] {
    border-color: $amber;
}
QLineEdit[tone="error"], QSpinBox[tone="error"], QDoubleSpinBox[tone="error"], QComboBox[tone="error"] {
    border-color: $red;
}
QSpinBox::up-button, QSpinBox::down-button, QDoubleSpinBox::up-button, QDoubleSpinBox::down-button {
    subcontrol-origin: border; subcontrol-position: top right; width: 0; border: none;
}
QComboBox::drop-down { border: none; width: 26px; }
QComboBox::down-arrow { image: url("$icons/arrow_grey.svg"); width: 16px; height: 16px; }
QComboBox QAbstractItemView {
    background: $card; border: 1px solid $border_strong; padding: 4px; outline: none;
    selection-background-color: $selected; selection-color: $text;
}
QComboBox QAbstractItemView::item { min-height: 28px; padding: 0 4px; }

QCheckBox { spacing: 8px; background: transparent; min-height: 24px; }
QCheckBox::indicator {
    width: 16px; height: 16px; border: 1px solid $border_strong; border-radius: 4px; background: $field;
}
QCheckBox::indicator:hover { border-color: $accent_text; }
QCheckBox::indicator:focus { border-color: $accent_text; }
QCheckBox:focus { color: $accent_text; }
QCheckBox::indicator:checked {
    background: $accent; border-color: $accent; image: url("$icons/tick_white.svg");
}
QCheckBox::indicator:checked:disabled { background: $muted; border-color: $muted; }

QProgressBar { background: $hover; border: none; border-radius: 3px; min-height: 6px; max-height: 6px; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }
QProgressBar[tone="amber"]::chunk { background: $amber; }
QProgressBar[tone="red"]::chunk { background: $red; }
QSlider::groove:horizontal { height: 4px; background: $border; border-radius: 2px; }
QSlider::sub-page:horizontal { background: $accent; border-radius: 2px; }
QSlider::handle:horizontal {
    width: 14px; height: 14px; margin: -6px 0;
    border-radius: 8px; background: $card; border: 1px solid $accent;
}
QSlider::handle:horizontal:focus, QSlider::handle:horizontal:hover { background: $selected; }

QScrollArea, QScrollArea > QWidget > QWidget#scroll_body { background: transparent; border: none; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $border_strong; border-radius: 3px; margin: 2px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::handle:hover { background: $muted; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }

QTableView {
    background: transparent; border: none; gridline-color: transparent; outline: none;
    selection-background-color: $selected; selection-color: $text;
}
QTableView::item { border-bottom: 1px solid $border; padding: 0 8px; }
QTableView::item:selected { background: $selected; color: $text; }
QHeaderView { background: transparent; border: none; }
QHeaderView::section {
    background: transparent; border: none; border-bottom: 1px solid $border; color: $muted; font-size: 12px;
    padding: 0 8px; min-height: 26px;
}
QPlainTextEdit#log { font-family: "Cascadia Mono", Consolas, "DejaVu Sans Mono", monospace; font-size: 12px; }
QLineEdit#command_entry { font-family: "Cascadia Mono", Consolas, "DejaVu Sans Mono", monospace; }
#setup_row { background: transparent; border: 1px solid transparent; border-radius: 6px; }
#setup_row:hover { background: $hover; }
#setup_row[chosen="yes"] { background: $selected; }
QMenu { background: $card; border: 1px solid $border_strong; padding: 4px; }
QMenu::item { padding: 6px 24px 6px 12px; border-radius: 4px; }
QMenu::item:selected { background: $selected; }
QMenu::item:disabled { color: $muted; }
QMenu::separator { height: 1px; background: $border; margin: 4px 8px; }
#bubble_user { background: $selected; border-color: $selected; }
QTextBrowser#prose, QPlainTextEdit#thought, #code_block QPlainTextEdit#log {
    background: transparent; border: none; padding: 0; min-height: 0;
}
QPlainTextEdit#some_lines { min-height: 76px; max-height: 76px; }
QPlainTextEdit#thought { color: $muted; }
#code_block { background: $field; border: 1px solid $border; border-radius: 6px; }
#code_block QPlainTextEdit#log { padding: 0 6px 6px 6px; }
QListWidget {
    background: $field; border: 1px solid $border; border-radius: 6px; outline: none; padding: 2px;
}
QListWidget::item { padding: 5px 6px; border-radius: 4px; color: $text; }
QListWidget::item:hover { background: $hover; }
QListWidget::item:selected { background: $selected; color: $text; }
#drop_target { background: $info_surface; border: 2px dashed $accent_text; border-radius: 8px; }
""")


def style_sheet(roles: Mapping[str, str], icons: str | Path) -> str:
    """The sheet with these colours; `icons` is the folder of the images that it names."""
    return _SHEET.substitute(roles, icons=Path(icons).as_posix())
