"""TRL's GRPOTrainer in a process of its own; takes a step whenever it is told to."""

from __future__ import annotations

import json
import sys

from bench.peer import tell

MANY = 1_000


def main(
    *,
    model: str,
    output: str,
    prompts: list[str],
    prompts_per_step: int,
    generations: int,
    tokens: int,
    learning_rate: float,
) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    drawn: list[int] = []

    class WhenTold(TrainerCallback):  # type: ignore[misc]  # transformers is not typed here
        def on_train_begin(self, *_: object, **__: object) -> None:
            tell({})

        def on_step_begin(self, *_: object, **__: object) -> None:
            if not sys.stdin.readline():
                sys.exit(0)

        def on_step_end(self, *_: object, **__: object) -> None:
            tell({"tokens": drawn[-1]})

    def number_of_digits(completions: list[str], completion_ids: list[list[int]], **_: object) -> list[float]:
        """Any reward that costs nothing and differs; it sees all that was drawn for the step."""
        drawn.append(sum(map(len, completion_ids)))
        return [float(sum(letter.isdigit() for letter in completion)) for completion in completions]

    config = GRPOConfig(
        output_dir=output,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=prompts_per_step * generations,
        gradient_accumulation_steps=1,
        num_generations=generations,
        max_completion_length=tokens,
        learning_rate=learning_rate,
        gradient_checkpointing=False,
        max_steps=MANY,
        save_strategy="no",
        logging_steps=MANY,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=number_of_digits,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": prompts}),
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[WhenTold()],
    )
    trainer.train()


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
