// Writes the types of the API from its document.
import { writeFileSync } from "node:fs";
import openapiTS, { astToString } from "openapi-typescript";

const document = new URL("../../../../docs/api/openapi.json", import.meta.url);
const types = await openapiTS(document);
writeFileSync(new URL("../src/api/schema.ts", import.meta.url), astToString(types));
