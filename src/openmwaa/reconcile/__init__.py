"""From what is wanted to what is: observe, plan (pure), act, record, in one leased loop."""
