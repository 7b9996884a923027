"""What one lesson measures (lesson_NN), what it draws (lesson_NN_figures), and charts that several share (charts)."""
