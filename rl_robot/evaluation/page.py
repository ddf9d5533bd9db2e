"""The frame of a report: an HTML page that needs no other file."""

from html import escape


def page(title: str, body: str) -> str:
    """A whole page of this title and these sections."""
    return _PAGE.format(title=escape(title), style=_STYLE, body=body)


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f8fa; color: #1f2933;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 20px; font-weight: 650; }
h2 { font-size: 17px; margin: 0 0 6px; font-weight: 620; }
h2:not(:first-child) { margin-top: 22px; }
p { margin: 0; }
.note { color: #697586; font-size: 13px; }
.after { margin-top: 12px; }
header .note { margin-bottom: 4px; }
section { background: #fff; border: 1px solid #e4e9ef; border-radius: 10px;
  padding: 20px 22px; margin-bottom: 16px; }
svg { display: block; width: 100%; height: auto; margin-top: 10px; font-family: inherit; }
.headline { display: grid; grid-template-columns: 1fr 1.2fr; gap: 24px; align-items: center; }
.big { font-size: 46px; line-height: 1.1; font-weight: 680; font-variant-numeric: tabular-nums; }
.big span { font-size: 24px; font-weight: 480; color: #697586; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 16px; }
.pair section:only-child { grid-column: 1 / -1; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(145px, 1fr)); padding: 0; }
.cards div { padding: 16px 8px 16px 20px; }
.value { font-size: 22px; font-weight: 640; font-variant-numeric: tabular-nums; }
.film { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; margin-top: 12px; }
figure { margin: 0; }
img { display: block; width: 100%; border-radius: 5px; }
figcaption { color: #697586; font-size: 12px; padding-top: 2px; }
.wide { overflow-x: auto; margin-top: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px 5px 0; border-bottom: 1px solid #e9eef3;
  font-size: 13.5px; vertical-align: top; white-space: nowrap; }
td:nth-child(4), td:nth-child(10) { white-space: normal; min-width: 150px; }
th { color: #697586; font-weight: 500; }
.contest { display: grid;
  grid-template-columns: repeat(auto-fit, minmax(210px, 1fr)); gap: 8px 28px; }
.contest .big { font-size: 40px; }
.contest .big span { font-size: 19px; }
.name { font-weight: 620; }
.verdict { margin-top: 16px; padding-top: 14px; border-top: 1px solid #e9eef3; }
.verdict p + p { margin-top: 4px; }
.charts { display: grid;
  grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 6px 26px; }
.charts h3 { font-size: 13.5px; font-weight: 560; margin: 12px 0 0; }
.sparks { display: grid;
  grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 4px 20px; }
.film.race { grid-template-columns: repeat(8, 1fr); gap: 5px; margin: 6px 0 14px; }
.note + p { margin-top: 10px; }
.race img { border-radius: 3px; }
.race .end img { outline: 2.5px solid; outline-offset: -2.5px; }
.stages { display: grid; grid-template-columns: max-content 1fr; gap: 4px 16px; align-items: start;
  margin: 8px 0; }
.stages .strip { margin: 3px 0; }
.strip { display: flex; flex-wrap: wrap; gap: 3px; margin: 8px 0; }
i { display: inline-block; width: 13px; height: 13px; border-radius: 3px; background: #bcd3ea; }
i.dot { border-radius: 50%; width: 11px; height: 11px; margin-right: 7px; vertical-align: -1px; }
i.success { background: #2f6fb3; }
i.terminated { background: #c2514a; }
i.truncated { background: #e2a95f; }
i.broken { background: #fff; border: 1.5px dashed #9aa5b4; }
.legend span { margin-right: 16px; white-space: nowrap; }
.legend i { vertical-align: -2px; margin-right: 6px; }
details { margin-top: 8px; }
summary { cursor: pointer; color: #2f6fb3; font-size: 14px; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(120px, 1fr)); gap: 8px 18px;
  margin: 8px 0 0; }
dt { color: #697586; font-size: 12.5px; }
dd { margin: 0; }
@media (max-width: 640px) { .headline, .pair { grid-template-columns: minmax(0, 1fr); }
  .film { grid-template-columns: repeat(2, 1fr); }
  .film.race { grid-template-columns: repeat(4, 1fr); } }
@media print { body { background: #fff; } section { break-inside: avoid; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""
