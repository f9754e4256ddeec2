"""Where data comes from: one module a source, all behind `base.Source`. Units and labels are made canonical here."""
