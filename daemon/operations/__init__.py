"""What operators do by hand, and what the daemon does beside the flow; used by cli and app."""
