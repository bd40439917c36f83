"""TAL Studio: start it with ``streamlit run app.py``."""

import streamlit as st

from pages.common.navigation import pages
from pages.common.video_serving import ROUTES

if __name__ == "__main__":  # a person looks at a page
    st.set_page_config(page_title="TAL Studio", page_icon="assets/icon.svg", layout="wide")
    st.logo("assets/logo.svg", icon_image="assets/icon.svg", size="large")
    st.navigation(pages()).run()
else:  # the server starts
    app = st.App(__file__, routes=ROUTES)
