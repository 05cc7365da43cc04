"""Facts of shipped models."""

import numpy as np
from support import faces

from ferlab.reports import model_facts


def test_dataset_name_is_fer_2013_for_its_training_file_alone():
    rows = faces(1)
    train, validation = (rows.take(np.zeros(count, int)) for count in (26_309, 2_400))
    assert model_facts.dataset_name(train, validation) == "FER-2013"
    assert model_facts.dataset_name(train, rows) is None
