"""What clouds offer and what it costs: dated tables, loaded into frozen structs."""
