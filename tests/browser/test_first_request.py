"""A shared link opens on an app that nobody has looked at yet."""

from playwright.sync_api import expect


def test_a_link_opens_its_page_as_the_very_first_request(app, new_page):
    address, _ = app
    page = new_page()
    page.goto(f"{address}/timeline?dataset=demo&run=demo-baseline")
    expect(page.get_by_role("heading", name="Timeline")).to_be_visible()
    expect(page.get_by_text("Page not found")).to_have_count(0)
