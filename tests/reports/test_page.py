"""The HTML page: self-contained, with all text escaped."""

import html.parser

from matplotlib.figure import Figure

from ferlab.reports.page import Page


class _Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = _Reader()
    reader.feed(page.html())
    return reader


def page_with(text):
    page = Page(text, text)
    page.heading(text)
    page.paragraph(text)
    page.note(text)
    page.warning(text)
    page.code(text)
    page.list([text])
    page.table([text, "n"], [(text, 1)])
    page.facts([(text, text)])
    page.figure(Figure(figsize=(1, 1)), text)
    return page


def test_page_escapes_all_text():
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(1)>&'
    reader, harmless = read(page_with(hostile)), read(page_with("happy"))
    assert reader.tags == harmless.tags
    assert "script" not in reader.tags
    assert {name for name, _ in reader.attributes} == {name for name, _ in harmless.attributes}
    assert reader.text.count(hostile) == harmless.text.count("happy") >= 11
    assert dict(reader.attributes)["alt"] == hostile


def test_page_is_self_contained(tmp_path):
    page = page_with("happy")
    page.save(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page.html()
    reader = read(page)
    links = [value for name, value in reader.attributes if name in ("src", "href")]
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    policy = dict(reader.attributes)["content"]  # the last meta element's
    assert policy.startswith("default-src 'none'")
    menu = [link for link in links if link.startswith("#")]
    assert menu == ["#s1"]
    assert ("id", "s1") in reader.attributes
