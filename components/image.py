"""The image that every component runs in: this tree and its environment; nothing is installed at run time."""

APP_IMAGE = "pvforecast/app:0.1.0"
