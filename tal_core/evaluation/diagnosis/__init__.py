"""Why a mAP is what it is: error types, sensitivity, what a fix would gain."""
