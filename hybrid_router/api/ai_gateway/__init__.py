"""The dialect of Cloudflare's AI Gateway."""
