"""TAL Studio: start it with ``streamlit run app.py``."""

import streamlit as st

from pages.media import ROUTES

if __name__ == "__main__":  # a person looks at a page
    st.session_state["navigated"] = True
    st.set_page_config(page_title="TAL Studio", page_icon="assets/icon.svg", layout="wide")
    st.logo("assets/logo.svg", icon_image="assets/icon.svg", size="large")
    st.navigation(
        [
            st.Page("pages/overview.py", title="Overview", icon=":material/home:", default=True),
            st.Page("pages/explore.py", title="Explore", icon=":material/insights:"),
            st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
            st.Page("pages/timeline.py", title="Timeline", icon=":material/view_timeline:"),
            st.Page("pages/evaluate.py", title="Evaluate", icon=":material/target:"),
            st.Page("pages/diagnose.py", title="Diagnose", icon=":material/troubleshoot:"),
            st.Page("pages/compare.py", title="Compare", icon=":material/compare_arrows:"),
            st.Page("pages/detect.py", title="Detect", icon=":material/search:"),
            st.Page("pages/live.py", title="Live", icon=":material/live_tv:"),
        ]
    ).run()
else:  # the server starts
    app = st.App(__file__, routes=ROUTES)
