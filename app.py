"""TAL Studio: start it with ``streamlit run app.py``."""

import streamlit as st

from pages.common.navigation import pages
from pages.common.video_serving import ROUTES
from tal_core.workspace import ASSETS

if __name__ == "__main__":  # a person looks at a page
    st.set_page_config(page_title="TAL Studio", page_icon=ASSETS / "icon.svg", layout="wide")
    st.logo(ASSETS / "logo.svg", icon_image=ASSETS / "icon.svg", size="large")
    st.navigation(pages()).run()
else:  # the server starts
    app = st.App(__file__, routes=ROUTES)
