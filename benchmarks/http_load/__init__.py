"""Loading HTTP servers: processes, requests with known answers, clients that come and go, the pulse of `/health`."""
