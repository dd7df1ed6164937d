/** Where alerts come in, in OpenAPI's form; see docs/alerts.md. */
export const ALERTS_PATH = '/v1/alerts/{source}';
