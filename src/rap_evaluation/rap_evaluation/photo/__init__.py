"""Parts of the camera simulator: street furniture, object shapes, light, shading and sensor."""
