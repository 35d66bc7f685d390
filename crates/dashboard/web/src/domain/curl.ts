/** A request as one would send it from a shell. The token stays a variable. */
export function asCurl(method: string, path: string, origin: string, body?: unknown): string {
  const parts = ["curl -sS"];
  if (method !== "GET") parts.push(`-X ${method}`);
  parts.push('-H "Authorization: Bearer $A67_TOKEN"');
  if (body !== undefined) {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(body))}`);
  }
  parts.push(quoted(`${origin}${path}`));
  return parts.join(" ");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
