"""What goes over the wire for each family of Workers AI's models; see `api.workers_ai.form.Form`."""
