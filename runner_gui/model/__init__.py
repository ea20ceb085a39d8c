"""What the window knows, without widgets: work folder, settings, form, series, runs, readiness."""
