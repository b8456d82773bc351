// Bytes as text that an address can hold (base64url), and back.

export function toText(bytes) {
  let text = "";
  for (const each of new Uint8Array(bytes)) text += String.fromCharCode(each);
  return btoa(text).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

export function fromText(text) {
  return Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (each) => each.charCodeAt(0)).buffer;
}
