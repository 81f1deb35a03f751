"""Pictures and pages for people: boxes on radiographs, figures, the report and the model card."""

NOTICE = "Research software, not a medical device."
