"""TAL Studio: start it with ``streamlit run app.py``."""

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from pages.common.navigation import pages
from pages.common.video_serving import ROUTES
from tal_core.workspace import ASSETS

if __name__ == "__main__":  # a person looks at a page
    st.set_page_config(page_title="TAL Studio", page_icon=ASSETS / "icon.svg", layout="wide")
    st.logo(ASSETS / "logo.svg", icon_image=ASSETS / "icon.svg", size="large")
    st.navigation(pages()).run()
else:  # the server starts
    # Streamlit would look for the very first request's page in pages/*.py, and not find it.
    PagesManager.uses_pages_directory = False
    app = st.App(__file__, routes=ROUTES)
