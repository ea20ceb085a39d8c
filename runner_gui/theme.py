"""How the window looks: colours by role for light and dark, the style sheet made of them, tinted icons."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Literal

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QIcon, QPainter, QPalette, QPixmap
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

from runner_gui.model.workspace import assets_folder
from runner_gui.style_sheet import style_sheet

ThemeChoice = Literal["system", "light", "dark"]


@dataclass(frozen=True, slots=True)
class Roles:
    """Colours by what they are for. Text roles have a contrast of at least 4.5 on every surface role."""

    window: str
    card: str
    field: str
    hover: str
    selected: str
    border: str
    border_strong: str
    text: str
    muted: str
    accent: str  # fills: the primary button, the progress bar
    accent_hover: str
    on_accent: str
    accent_text: str  # links, the chosen tab, the smoothed curve
    amber: str
    amber_surface: str
    red: str
    red_surface: str
    green: str
    green_surface: str
    info_surface: str
    curve_raw: str
    point: str  # validation points
    grid: str


LIGHT = Roles(
    window="#f4f5f7", card="#ffffff", field="#ffffff", hover="#eef0f3", selected="#e8effd",
    border="#e1e4e8", border_strong="#c5cbd3", text="#1b1f24", muted="#59626d",
    accent="#2563eb", accent_hover="#1d54cf", on_accent="#ffffff", accent_text="#1d56d0",
    amber="#855300", amber_surface="#fdf4e3", red="#b42318", red_surface="#fdeeec",
    green="#14703f", green_surface="#e9f6ee", info_surface="#eaf1fe",
    curve_raw="#b4bbc5", point="#c27400", grid="#e9ebee",
)  # fmt: skip
DARK = Roles(
    window="#15171b", card="#1d2025", field="#17191d", hover="#282c32", selected="#22314f",
    border="#30343b", border_strong="#4a515b", text="#e7e9ec", muted="#a3abb6",
    accent="#2f6be6", accent_hover="#3f7af0", on_accent="#ffffff", accent_text="#82acff",
    amber="#e6b04f", amber_surface="#30281a", red="#ff9389", red_surface="#371f1f",
    green="#62c78e", green_surface="#1a2d23", info_surface="#1c2a44",
    curve_raw="#5d6673", point="#e6b04f", grid="#292d33",
)  # fmt: skip

TEXT_ROLES = ("text", "muted", "accent_text", "amber", "red", "green")
SURFACE_ROLES = ("window", "card", "field", "hover", "selected")
TINTED_SURFACES = {
    "amber": "amber_surface",
    "red": "red_surface",
    "green": "green_surface",
    "text": "info_surface",
}


class Theme(QObject):
    """The theme in use; follows the system while it is asked to.

    Signals:
        changed(): the roles are others now; whoever paints by hand paints anew.
    """

    changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.roles = LIGHT
        self._choice: ThemeChoice = "system"
        self._following = False

    @property
    def is_dark(self) -> bool:
        return self.roles is DARK

    def apply(self, choice: ThemeChoice) -> None:
        """Dress the application in this theme from now on."""
        self._choice = choice
        if not self._following:
            self._following = True
            QGuiApplication.styleHints().colorSchemeChanged.connect(self._on_system_changed)
        self._dress()

    def _on_system_changed(self) -> None:
        if self._choice == "system":
            self._dress()

    def _dress(self) -> None:
        dark = self._choice == "dark" or (self._choice == "system" and _system_is_dark())
        self.roles = DARK if dark else LIGHT
        application = QApplication.instance()
        if isinstance(application, QApplication):
            application.setPalette(_palette(self.roles))
            application.setStyleSheet(style_sheet(asdict(self.roles), assets_folder() / "icons"))
        self.changed.emit()


def _system_is_dark() -> bool:
    return QGuiApplication.styleHints().colorScheme() == Qt.ColorScheme.Dark


theme = Theme()


def color(role: str) -> QColor:
    """The colour of a role in the theme in use."""
    return QColor(getattr(theme.roles, role))


def role_names() -> list[str]:
    return [field.name for field in fields(Roles)]


def contrast(a: str, b: str) -> float:
    """Contrast ratio of two colours, 1 to 21 (WCAG 2.1, 1.4.3)."""
    bright, dim = sorted((_luminance(a), _luminance(b)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(name: str) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    c = QColor(name)
    return 0.2126 * linear(c.redF()) + 0.7152 * linear(c.greenF()) + 0.0722 * linear(c.blueF())


def _palette(r: Roles) -> QPalette:
    palette = QPalette()
    group, role = QPalette.ColorGroup, QPalette.ColorRole
    for target, source in {
        role.Window: r.window, role.WindowText: r.text, role.Base: r.field, role.AlternateBase: r.card,
        role.Text: r.text, role.Button: r.card, role.ButtonText: r.text, role.BrightText: r.red,
        role.Highlight: r.accent, role.HighlightedText: r.on_accent, role.Link: r.accent_text,
        role.LinkVisited: r.accent_text, role.ToolTipBase: r.card, role.ToolTipText: r.text,
        role.PlaceholderText: r.muted, role.Mid: r.border, role.Dark: r.border_strong,
        role.Light: r.card, role.Midlight: r.hover, role.Shadow: r.border_strong, role.Accent: r.accent,
    }.items():  # fmt: skip
        palette.setColor(target, QColor(source))
    for target in (role.WindowText, role.Text, role.ButtonText):
        palette.setColor(group.Disabled, target, QColor(r.muted))
    return palette


@lru_cache(maxsize=64)
def _svg(name: str) -> str:
    return (assets_folder() / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def pixmap(name: str, role: str, size: int, ratio: float = 1.0) -> QPixmap:
    """An icon drawn in the colour of a role, `size` pixels wide and high on a screen of scale `ratio`."""
    picture = QPixmap(QSize(round(size * ratio), round(size * ratio)))
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    data = QByteArray(_svg(name).replace("currentColor", getattr(theme.roles, role)).encode())
    QSvgRenderer(data).render(painter, QRectF(picture.rect()))
    painter.end()
    picture.setDevicePixelRatio(ratio)
    return picture


def icon(name: str, role: str = "muted", size: int = 20) -> QIcon:
    """An icon in the colour of a role, for screens of scale one to three."""
    out = QIcon()
    for ratio in (1.0, 2.0, 3.0):
        out.addPixmap(pixmap(name, role, size, ratio))
        out.addPixmap(pixmap(name, "border_strong", size, ratio), QIcon.Mode.Disabled)
    return out
