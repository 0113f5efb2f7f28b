"""Hooks of mkdocs: add the generated pages, and put step tables and pictures into them.

Tables and pictures are inserted into the pages after mkdocs has made the search index, so that they are not in the
index.
"""

import shutil
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page as SitePage

from docs_site.catalogue.entries import Catalogue, read_catalogue
from docs_site.catalogue.index_pages import FIRST, grouped
from docs_site.catalogue.mutations import PAGE as MUTATIONS
from docs_site.catalogue.mutations import with_links
from docs_site.catalogue.requirement_page import INDEX
from docs_site.catalogue.steps import StaleTableError
from docs_site.markup import Page, filled, squeezed, suite_path
from docs_site.outside import rewritten
from docs_site.pages import generated_pages, outside_files
from docs_site.pictures import StalePictureError, check_pictures
from harness.timeline.legend import patterns, style

ROOT = Path(__file__).resolve().parents[1]
STYLE, SCRIPT = "assets/site.css", "assets/site.js"
_generated: dict[str, Page] = {}
"""The generated pages of this build, by path."""
_catalogues: list[Catalogue] = []
"""The catalogue of this build, in a list of one element. Only ``on_config`` reads it, because reading takes seconds."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the suites to the navigation of the site, below Catalogue."""
    _catalogues[:] = [read_catalogue(ROOT / "suites")]
    groups = grouped(_catalogues[0])
    suites = [
        {name: [{suite.name.rpartition("/")[2]: suite_path(suite.name)} for suite in suites]}
        for name, suites in groups.items()
    ]
    assert config.nav is not None
    for part in config.nav:
        if part.get("Catalogue"):
            part["Catalogue"] = [FIRST, {"Requirements": INDEX}, *suites]
    config.extra_css.append(STYLE)
    config.extra_javascript.append(SCRIPT)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Generate pages and add them to the site's files. Raises PluginError if a golden table or picture is stale."""
    try:
        check_pictures(ROOT)
        _generated.clear()
        _generated.update({page.path: page for page in generated_pages(_catalogues[0], ROOT)})
    except (StalePictureError, StaleTableError, ValueError) as error:
        raise PluginError(str(error)) from error
    for page in _generated.values():
        files.append(File.generated(config, page.path, content=page.markdown))
    files.append(File.generated(config, STYLE, content=f"{site_style(style())}\n{_text('site.css')}"))
    files.append(File.generated(config, SCRIPT, content=_text("site.js")))
    return files


def _text(name: str) -> str:
    return (ROOT / "docs_site" / name).read_text(encoding="utf-8")


def on_page_markdown(markdown: str, page: SitePage, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return a page's Markdown with changed links.

    Links to files outside ``docs/`` lead to the pages that show these files. In the page of mutations, the ids of cases
    become links.
    """
    path = page.file.src_uri
    if path == MUTATIONS:
        cases = _catalogues[0].cases
        markdown = with_links(markdown, {entry.case.id: suite_path(entry.suite) for entry in cases})
    return markdown if path in _generated else rewritten(markdown, path, outside_files(ROOT))


def on_post_page(output: str, page: SitePage, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Insert step tables and time-lines into the HTML of a page, and remove white space that has no effect."""
    made = _generated.get(page.file.src_uri)
    if made is not None and made.slots:
        hatchings = (
            f'<svg class="timeline defs" width="0" height="0" aria-hidden="true"><defs>{patterns()}</defs></svg>'
        )
        output = filled(output, made.slots).replace("</body>", f"{hatchings}</body>", 1)
    return squeezed(with_names(output))


def with_names(html: str) -> str:
    """Add a label to the search dialog in the HTML of a page, and replace empty header cells of tables.

    Screen readers need both changes.
    """
    search = 'data-md-component="search" role="dialog"'
    return html.replace(search, f'{search} aria-label="Search"').replace("<th></th>", "<td></td>")


def on_post_build(config: MkDocsConfig) -> None:
    """Remove files of the theme that browsers do not load: source maps, and the search in other languages."""
    scripts = Path(config.site_dir, "assets")
    for path in scripts.rglob("*.map"):
        path.unlink()
    shutil.rmtree(scripts / "javascripts" / "lunr", ignore_errors=True)


def site_style(sheet: str) -> str:
    """Return the style sheet of time-lines, changed for the site.

    In reports, dark colours depend on the setting of the system. On the site, the reader chooses them. Raises
    ValueError if the style sheet has no dark colours in the expected place.
    """
    dark = "@media screen and (prefers-color-scheme:dark){.timeline{"
    if sheet.count(dark) != 1:
        raise ValueError(f"timeline.css: expected the dark colours once, after {dark!r}: adapt site_style in hooks.py")
    before, after = sheet.split(dark)
    colours, rest = after.split("}}", 1)
    return f'{before}[data-md-color-scheme="slate"] .timeline{{{colours}}}{rest}'
