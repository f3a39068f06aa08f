"""The REST service: raw rows in, the champion's predictions out, over HTTP."""
