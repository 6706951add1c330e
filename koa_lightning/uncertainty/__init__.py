"""What a grade is worth: calibration, prediction sets, abstention, and inputs of a foreign kind; nothing here draws."""
