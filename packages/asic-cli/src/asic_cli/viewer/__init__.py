"""What `report.html` is made of: pictures, score table and textures in Python, the page itself in HTML, CSS and JS."""
