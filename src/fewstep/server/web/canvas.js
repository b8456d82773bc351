// A picture that came onto a canvas of its size.

export async function show(canvas, blob) {
  const picture = await createImageBitmap(blob);
  if (canvas.width !== picture.width || canvas.height !== picture.height) {
    Object.assign(canvas, { width: picture.width, height: picture.height });
  }
  canvas.getContext("2d").drawImage(picture, 0, 0);
  picture.close();
}
