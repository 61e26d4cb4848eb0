"""Words that would do harm where they are not treated as text, and how to see that they did none."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

HOSTILE = [
    # HTML and script
    "<script>alert(1)</script>",
    "</script><script>alert(1)//",
    "\"'><img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "</style></svg><b>",
    "</title><script>alert(1)</script>",
    "</pre></code></td></table><h1>outside</h1>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href='javascript:alert(1)'>click</a>",
    "<details open ontoggle=alert(1)>",
    "<<b>html</b>>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&lt;&amp;&#60;&NewLine;",
    '" onmouseover="alert(1)" x="',
    "' autofocus onfocus='alert(1)",
    "` onerror=alert(1) `",
    "<!-- --><script>alert(1)</script>",
    "]]><!-- --",
    "<base href=//example.invalid>",
    "<meta http-equiv=refresh content=0>",
    "<style>*{display:none}</style>",
    "<foreignObject><body onload=alert(1)></foreignObject>",
    "<button type=button class=cf-pick data-node=0 data-item=1>pick me</button>",
    "<math><mtext></mtext><script>alert(1)</script></math>",
    "<img src=data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=>",
    # DOT, CSS and templates
    "\\N\\G\\",
    'a"; evil [label="x',
    '"];} digraph { x -> y',
    "<TABLE><TR><TD HREF='javascript:alert(1)'>x</TD></TR></TABLE>",
    "expression(alert(1)); } .celeryflow { display: none",
    "{{x}} ${y} %s {0.__class__}",
    "$x^2$ \\(y\\) $$\\href{javascript:alert(1)}{z}$$",
    # markdown and markup
    "[click](javascript:alert(1)) ![x](https://example.invalid/x.png)",
    "# heading\n- item\n```html\n<script>alert(1)</script>\n```",
    "[bold red]markup[/bold red] [/] [link=file:///etc/passwd]x[/link]",
    # terminals
    "one\ntwo\r\n\ttab\x00\x07\x08\x7f",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b",
    "\x1b]8;;https://example.invalid\x1b\\link\x1b]8;;\x1b\\",
    "\x1b[2J\x1b[H\x9b31mcleared",
    "50 %|\u2588\u2588\u2588\u2588     |\r100 %",
    # directions, alphabets and signs
    "\u202egnp.exe\u2066\u200b\u200f\u061c",
    "\u05e9\u05dc\u05d5\u05dd \u202b(1)\u202c 2 / 3",
    "\ud800lone\udfff",
    "emoji \U0001f469\u200d\U0001f680 family \U0001f1e9\U0001f1ea",
    "\u6f22\u5b57\u304b\u306a\uff1cscript\uff1e",
    "Z" + "\u0351\u036b\u0343" * 40 + "a",
    "\u2028line\u2029separators\x85\x0b\x0c\ufeff\ufffe\U000e0041",
    # sizes
    "x" * 10_000,
    "<" * 3_000,
    "",
]
"""Fifty of them."""

assert len(HOSTILE) == len(set(HOSTILE)) == 50

TAGS = {
    *("section", "style", "div", "b", "span", "p", "small", "code", "pre", "img", "h4", "button"),
    *("table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "details", "summary"),
}
ATTRIBUTES = {
    *("class", "aria-label", "style", "alt", "src", "title", "role", "colspan"),
    *("type", "data-node", "data-item", "open"),
}


class Tags(HTMLParser):
    """Collects tags and attributes of a page, and checks that the tags match."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.attributes: set[str] = set()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.sources += [value or "" for name, value in attrs if name == "src"]
        if tag not in ("img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def assert_is_inert(page: str) -> str:
    """Nothing but what the views themselves write is in it; what is left is its text."""
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert tags.open == []
    assert tags.found <= TAGS
    assert tags.attributes <= ATTRIBUTES
    assert all(source.startswith("data:image/svg+xml;base64,") for source in tags.sources)
    shown = "".join(tags.words)
    assert_is_plain(shown)
    return shown


def assert_is_plain(shown: str) -> None:
    """No control codes, no marks that turn or hide what stands beside them, and nothing that cannot be encoded."""
    assert not [c for c in shown if unicodedata.category(c)[0] == "C" and c != "\n"]
    shown.encode()
