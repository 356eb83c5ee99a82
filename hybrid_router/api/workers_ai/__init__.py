"""The dialect of Cloudflare's Workers AI: its wire forms → `Call`, events → its wire forms."""
