"""The report: finished experiments as one page of figures, tables and what they prove. Nothing is trained here."""
