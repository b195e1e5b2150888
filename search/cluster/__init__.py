"""Ray: connection, trials on Ray Tune, tasks. The only subpackage of search that imports Ray."""
