"""The API from the other side: a small synchronous client for programs, the command line and the MCP server."""

from ua_vp.client.client import Client
from ua_vp.client.logs import LogPart
from ua_vp.client.place import Place, find
from ua_vp.client.verify import Difference

__all__ = ["Client", "Difference", "LogPart", "Place", "find"]
