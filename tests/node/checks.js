// What Cloudflare's own Node package sees: each side's checks, one after the other, told as one JSON document.
//
//     node checks.js '{"sides": {"NAME": {"base_url", "account_id", "token", "gateway_url"}}, "picture": [...]}'
//
// It judges nothing: the test that starts it does.
import Cloudflare, { toFile } from "cloudflare";

const CHAT = "@cf/meta/llama-3.2-1b-instruct";
const ADAPTED = "@cf/google/gemma-7b-it-lora";
const GATEWAY = "site";
const asked = JSON.parse(process.argv[2]);

function clientOf(side, apiToken = side.token) {
  return new Cloudflare({ baseURL: side.base_url, apiToken, maxRetries: 0, timeout: 60_000 });
}

// How a promise fails, as the package types it.
async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { type: error.constructor.name, status: error.status, code: error.errors?.[0]?.code };
  }
  return null;
}

async function collected(pages) {
  const rows = [];
  for await (const row of pages) rows.push(row);
  return rows;
}

async function text({ run }) {
  return (await run(CHAT, { prompt: "count to 4" })).response;
}

async function stream({ client, account_id }) {
  const reply = await client.ai.run(CHAT, { account_id, prompt: "count to 4", stream: true }).asResponse();
  const pieces = [];
  const decoder = new TextDecoder();
  for await (const chunk of reply.body) pieces.push(decoder.decode(chunk, { stream: true }));
  return { type: reply.headers.get("content-type"), body: pieces.join("") };
}

async function vectors({ run }) {
  return (await run("@cf/baai/bge-small-en-v1.5", { text: ["a cat", "a dog"] })).shape;
}

async function translation({ run }) {
  const inputs = { text: "good morning", source_lang: "en", target_lang: "de" };
  return (await run("@cf/meta/m2m100-1.2b", inputs)).translated_text;
}

async function labels({ run }) {
  return await run("@cf/microsoft/resnet-50", { image: asked.picture });
}

async function speech({ run }) {
  const spoken = await run("@cf/myshell-ai/melotts", { prompt: "good morning to you", lang: "en" });
  const audio = [...Buffer.from(spoken.audio, "base64")];
  return (await run("@cf/openai/whisper", { audio })).text;
}

async function picture({ client, account_id }) {
  const inputs = { account_id, prompt: "a red house", width: 256, height: 320 };
  const reply = await client.ai.run("@cf/stabilityai/stable-diffusion-xl-base-1.0", inputs).asResponse();
  const file = Buffer.from(await reply.arrayBuffer());
  return { type: reply.headers.get("content-type"), base64: file.toString("base64") };
}

async function models({ client, account_id }) {
  const rows = await collected(client.ai.models.list({ account_id, task: "Text Generation", per_page: 5 }));
  return rows.map((row) => row.name);
}

async function schema({ client, account_id }) {
  return Object.keys(await client.ai.models.schema.get({ account_id, model: CHAT }));
}

async function errors({ client, side, account_id, run }) {
  const rerank = { query: "q", contexts: [{ text: "a" }] };
  return {
    token: await failure(clientOf(side, "not-the-token").ai.run(CHAT, { account_id, prompt: "hi" })),
    model: await failure(run("@cf/nobody/knows-1b", rerank)),
    input: await failure(run("@cf/meta/m2m100-1.2b", { text: 7, target_lang: "de" })),
    address: await failure(client.get("/accounts/any/nowhere")),
  };
}

async function logs({ client, side, account_id }) {
  const path = `${side.gateway_url}/workers-ai/${CHAT}`;
  const answer = await client.post(path, { body: { prompt: "count to 3" } });
  const filters = [{ key: "model", operator: "contains", value: ["llama"] }];
  const page = await client.aiGateway.logs.list(GATEWAY, { account_id, filters, per_page: 1 });
  const { id, provider, tokens_out } = page.result[0];
  await client.aiGateway.logs.edit(id, { account_id, gateway_id: GATEWAY, feedback: -1, score: 10 });
  const { feedback, score } = await client.aiGateway.logs.get(id, { account_id, gateway_id: GATEWAY });
  return { said: answer.result.response, provider, tokens_out, feedback, score };
}

async function finetune({ client, account_id, run }) {
  const made = await client.ai.finetunes.create({ account_id, model: ADAPTED, name: "by-node" });
  const config = JSON.stringify({ model_type: "gemma", r: 8 });
  for (const [file_name, content] of [["adapter_config.json", config], ["adapter_model.safetensors", "weights"]]) {
    const file = await toFile(Buffer.from(content), file_name);
    await client.ai.finetunes.assets.create(made.id, { account_id, file, file_name });
  }
  const listed = await client.ai.finetunes.list({ account_id });
  const answer = await run(ADAPTED, { prompt: "repeat: tuned", raw: true, lora: made.id });
  return { listed: listed.map((row) => row.name), said: answer.response };
}

async function markdown({ client, account_id }) {
  const page = await toFile(Buffer.from("<h1>Title</h1>"), "page.html", { type: "text/html" });
  const rows = await collected(client.ai.toMarkdown.transform({ account_id, file: { files: [page] } }));
  return rows.map((row) => row.data);
}

async function gateway({ client, account_id }) {
  const settings = { cache_invalidate_on_update: true, cache_ttl: 0, collect_logs: true };
  const rates = { rate_limiting_interval: 0, rate_limiting_limit: 0 };
  return (await client.aiGateway.create({ account_id, id: GATEWAY, ...settings, ...rates })).id;
}

const INFERENCE = { text, stream, vectors, translation, labels, speech, picture, models, schema, errors, logs };
const CHECKS = { emulator: { gateway, ...INFERENCE, finetune, markdown }, router: INFERENCE };

const told = {};
for (const [name, side] of Object.entries(asked.sides)) {
  const client = clientOf(side);
  const { account_id } = side;
  const run = (model, inputs) => client.ai.run(model, { account_id, ...inputs });
  told[name] = {};
  for (const [check, look] of Object.entries(CHECKS[name])) {
    try {
      told[name][check] = await look({ client, side, account_id, run });
    } catch (error) {
      told[name][check] = { failed: String(error.stack ?? error) };
    }
  }
}
process.stdout.write(JSON.stringify(told));
