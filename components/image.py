"""The image that every component runs in; it carries this tree and its environment, nothing is installed at run time."""

APP_IMAGE = "pvforecast/app:0.1.0"
