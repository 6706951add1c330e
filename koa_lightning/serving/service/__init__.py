"""Grade radiographs over HTTP: the service, and the page for readers. Research use only."""
