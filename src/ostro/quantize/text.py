"""The text that a packed model is compared on where no other is given: plain English and code, written for this."""

from __future__ import annotations

BUILT_IN = '''\
The ferry left the island at six in the morning, when the harbour was still dark and the gulls had not yet begun to
quarrel over the nets. Marta stood at the rail with her collar turned up and counted the lights along the shore. There
were eleven of them, as there had been every winter of her childhood, and she was glad that nobody had thought of
adding a twelfth. Behind her two fishermen talked about the price of diesel. One of them had sold his boat in October
and had regretted it every day since; the other said that regret was cheaper than a new engine.

"You will be back by Easter," the older man told her, although she had not asked him. "They always come back by Easter,
the ones who take the early boat."

She laughed, because it was the kind of thing her grandmother used to say, and because it might be true.

How do tides work? The Moon pulls on the whole Earth, but it pulls a little harder on the side that faces it and a
little less on the far side. The oceans are stretched along that line, so there are two bulges of water: one below the
Moon and one opposite to it. As the Earth turns once a day, most coasts pass through both bulges, and so they have two
high tides and two low tides in about 24 hours and 50 minutes. The extra fifty minutes come from the Moon's own motion
around the Earth. The Sun does the same with a bit less than half the strength. When Sun and Moon stand in one line, at
new moon and at full moon, their effects add up and the tides are especially high; at the half moons they partly cancel
each other. The shape of the coast matters as well: a funnel-shaped bay can raise a modest tide of one metre to more
than ten.

def moving_average(values, width):
    """Average of the last `width` values at every position; shorter at the beginning."""
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    averages = []
    total = 0.0
    for index, value in enumerate(values):
        total += value
        if index >= width:
            total -= values[index - width]
        averages.append(total / min(index + 1, width))
    return averages


class Account:
    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner = owner
        self.balance = balance

    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise RuntimeError("not enough money")
        self.balance -= amount
        return self.balance

{"name": "Lighthouse Cafe", "open": true, "seats": 24, "menu": [{"dish": "fish soup", "price": 8.5},
{"dish": "rye bread with butter", "price": 3.0}, {"dish": "apple cake", "price": 4.2}]}

for (int row = 0; row < rows; ++row) {
    float sum = 0.0f;
    for (int col = 0; col < cols; ++col) sum += matrix[row * cols + col] * vector[col];
    result[row] = sum;
}

SELECT city, COUNT(*) AS visits, AVG(duration) FROM journeys WHERE year = 2023 GROUP BY city ORDER BY visits DESC;

Dear Dr. Okafor, thank you for your letter of 14 March. We have looked at the three samples you sent us. The first two
contain between 0.4 and 0.7 milligrams of iron per litre, which is within the limit of 1.0. The third is at 1.9 and
should not be used for drinking until the filter has been replaced. Please let us know by Friday whether Tuesday at
half past nine would suit you for a second visit. If 12 filters are needed at 35 euros each, the material will come to
420 euros, and we would ask you to order it yourself. With kind regards, A. Lindqvist.

Once there was a small robot who wanted to learn how to bake. It read every book in the library, from the oldest to the
newest, and it knew that bread needs flour, water, salt, yeast and time. The flour was easy, and so were the water, the
salt and the yeast. But the robot did not understand time. It took the loaf out of the oven after one minute, and it was
dough. It took the loaf out after one day, and it was coal. Then an old woman sat down beside it and said: "Wait until
the kitchen smells like a morning you would like to remember." The robot could not smell, so they waited together, and
when she smiled, it opened the oven door.
'''
"""About a thousand tokens."""
