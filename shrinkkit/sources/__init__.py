"""Where models, texts and tasks come from: embedded in packages, in a folder, or on the hub."""
