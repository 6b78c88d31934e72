"""A person at a browser gives a token as the password once, and continues from the list of studies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.viewer.conftest import Archive, picture_of

TOKEN = "sixteen-letters!"


@pytest.mark.parametrize("entrance", ["/", "/studies/{study}"])
def test_the_token_as_password_opens_the_pages_their_pictures_and_the_sidebar(
    browser: Browser, serve: Callable[..., Archive], entrance: str
) -> None:
    guarded = serve(api_tokens=(TOKEN,))
    with browser.new_context(http_credentials={"username": "reader", "password": TOKEN}) as context:
        page = context.new_page()
        refused: list[str] = []
        page.on("response", lambda answer: refused.append(answer.url) if answer.status == 401 else None)
        page.goto(guarded.web.root + entrance.format(study=guarded.query))
        expect(page.locator("body")).to_have_css("max-width", "1248px")  # the style was let in
        picture_of(page, "signed-in" + ("-start" if entrance == "/" else "-study"))
        page.locator("a.go").first.click()
        expect(page.locator("li.case").first).to_be_visible()
        assert page.locator("li.case img").first.evaluate("img => img.decode().then(() => img.naturalWidth)") > 50
        assert not refused, "what a page needs came without being asked for again"


def test_who_gives_none_reads_what_is_needed(browser: Browser, serve: Callable[..., Archive]) -> None:
    guarded = serve(api_tokens=(TOKEN,))
    with browser.new_context(http_credentials={"username": "reader", "password": "wrong"}) as context:
        page = context.new_page()
        page.goto(guarded.web.root + "/")
        expect(page.get_by_role("alert")).to_contain_text("A token is needed")
