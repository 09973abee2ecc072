// What a program does with the generated types; it is type-checked against them, and run against a service.
import createClient from "openapi-fetch";
import type { components, paths } from "./abdistill.js";

declare const process: { env: Record<string, string> };

const client = createClient<paths>({
  baseUrl: process.env.ABDISTILL_URL,
  headers: { Authorization: `Bearer ${process.env.ABDISTILL_API_KEY}` },
});

const { data: dataset, error } = await client.POST("/v1/datasets", {
  body: { name: "digits", filename: "digits.npz" },
});
if (dataset === undefined) throw new Error(error.detail);

const recipe: components["schemas"]["Recipe"] = { transfer: null };
const { error: refused } = await client.POST("/v1/jobs", {
  params: { header: { "Idempotency-Key": "twice" } },
  body: {
    dataset: dataset.id,
    teacher: "tch_none",
    student: { arch: "wide_resnet", depth: 10, width: 1 },
    recipe,
  },
});
if (refused === undefined) throw new Error("there is no such teacher");

const { data: page } = await client.GET("/v1/jobs", { params: { query: { state: ["queued"] } } });
console.log(dataset.state, refused.type, refused.errors.map((one) => [one.code, one.where]), page?.data.length);
