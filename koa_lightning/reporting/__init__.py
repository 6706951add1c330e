"""All that draws or writes pages. Research use only, not a medical device."""
