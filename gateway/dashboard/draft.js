export async function draft(body, ask) { return ask(body); }
